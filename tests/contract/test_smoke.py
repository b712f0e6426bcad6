from .city import City
from .evm import Evm
def test_it():
    c = City.built(Evm())
    t = c.open()
    print(c.state(t))
