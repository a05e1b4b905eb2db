"""`octavo run-batch`: a file of requests answered into another, by a server of its own or not."""
