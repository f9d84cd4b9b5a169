"""Adapters to AWS clients. Of the features, only webhooks and imports call a client themselves."""
