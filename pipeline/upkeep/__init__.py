"""Looking after runs: which there are, what one holds, whether it is as recorded, and how it goes. No Ray."""
