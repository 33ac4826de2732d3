"""`microseg check`: a project and what its sources bring, judged and told before anything runs."""
