"""What makes a bare machine able: the environment, the engine, and the settings under which both run.

Standard library only, and Python 3.9: this runs before anything is installed. It imports nothing of the product.
"""
