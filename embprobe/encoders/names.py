"""temporary"""
GRAMMAR = "x"
def check_name(s): ...
def is_control(s): return s.startswith(("pixels","random:"))
def full_name(s): return s
def draws(s): return s.startswith("random:")
def family_version(s): return None
def hub_file(s, *, download): return None
def is_known(s): return True
