from tests.support.sandbox import levers, sandbox

__all__ = ["levers", "sandbox"]
