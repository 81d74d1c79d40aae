"""Published metanetworks in torch, imported from checkouts of their own repositories.

Runs in an interpreter that has torch, and imports nothing else of this project: the repositories have
packages called `experiments` and `nn` themselves. So this package is found as `_peers`, with the folder
that holds it at the end of the path of the interpreter, and a process imports one repository only.
"""
