"""Three small networks of the production classes, and the scenes that train and test them."""
