"""How predictions become a loss: weighted terms that return sums; one file each."""
