"""The auditor: ties out the chain against receipts, importing nothing of the hub."""
