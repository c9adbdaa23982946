"""Does a finished run, or a bundle of one, say what its pictures say?"""
