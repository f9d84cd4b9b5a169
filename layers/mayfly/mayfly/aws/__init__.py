"""The only modules of the library that call an AWS client, apart from each feature's store."""
