"""Adapters to AWS services, and the lean client. Of the features, only imports call a client."""
