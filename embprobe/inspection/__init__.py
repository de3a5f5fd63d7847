"""What people ask of a store: what is there, what would be made, whether it is whole, what may go."""
