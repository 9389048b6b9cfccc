"""CloudEvents in, typed triggers out; typed messages in, Pub/Sub out."""
