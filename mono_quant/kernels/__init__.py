"""Integer arithmetic: the exact reference, the fast ways inside torch, and the choice between them."""
