"""How networks grow: the algorithm, one candidate's evaluation, what is told to observers."""
