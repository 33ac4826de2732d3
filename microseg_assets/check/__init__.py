"""`microseg check`: a project and what its sources bring, assessed and reported before anything runs."""
