"""Training scripts: bags in, a bundle out. Each module reads as a recipe and has an importable `main(options)`."""
