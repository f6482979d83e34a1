"""A pickle that runs a program where it is read as more than weights."""


class Malicious:
    def __reduce__(self):
        return (print, ("a pickle ran a program",))
