"""What `bench/pair` is made of."""
