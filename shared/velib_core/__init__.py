"""The library behind every function: feed → snapshot → lake → panel → features → forecast."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# OpenMP reads it when XGBoost or scikit-learn is loaded, which is after this package. By default
# its threads spin while they wait for each other, and on a busy machine they take the processor
# from the very thread that is waited for: training then takes several times as long.
