"""Any Transformers model behind one seam: hidden states where they are read, and its own head on just those."""
