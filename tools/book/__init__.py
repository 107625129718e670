"""The web book, from what is committed: pages are written to build/book/src/, Sphinx makes build/book/html/ of them.

`__main__` is `make book`. Each other module writes the pages of one kind: `notebooks` lessons and exercises, and so on.
`places` knows which page of the book shows which file of the repository.
"""
