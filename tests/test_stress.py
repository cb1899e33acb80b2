"Short form of `make stress`: a few corrupted inputs, and a few killed runs that are resumed."
from fuzz import faults, fuzz
from kill import kill_runs

def test_corrupted_inputs(): assert faults(fuzz(12))==[]

def test_killed_runs_resume_to_the_same_weights(): assert [o['same'] for o in kill_runs(1, epochs=2)]==[True]
