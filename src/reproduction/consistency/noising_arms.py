"""The arms of *learned noising*: what trains the rates of P_B. P_F is trained by the bound in all of them."""

__all__ = ["ARMS", "REFERENCE"]

# {arm: what its title in figures is}
ARMS = {
    "fixed": "fixed",
    "pathwise": "the bound, reparameterised",
    "score": "the bound's score function",
    "tbc": "½ TBC on P_B alone",
}
REFERENCE = "fixed"
