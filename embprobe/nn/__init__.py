"""Networks and the losses that train them."""
