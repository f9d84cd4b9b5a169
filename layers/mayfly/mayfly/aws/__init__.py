"""The only modules of the library that know an AWS client, apart from each feature's store."""
