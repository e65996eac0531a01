"""Data in: catalogues joined and audited, stamps packed, split, loaders, augmentation."""
