"""From a message to the commit of its job."""
