"""What puts the project on machines: the cluster's choice of them, and a lint of what describes it."""
