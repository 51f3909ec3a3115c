"""The vendor's client for JavaScript: client.js in this directory.

VITALD_SDK_NODE is a Node.js, VITALD_SDK_MODULES the directory that has the client; where
they are not set there is nothing to run here. `tests/run sdk` sets both.
"""

import os
import subprocess
import unittest

NODE = os.environ.get("VITALD_SDK_NODE")
CLIENT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "client.js")


@unittest.skipUnless(NODE, "VITALD_SDK_NODE is not set")
class JavaScript(unittest.TestCase):
    def test_channels(self):
        environment = {**os.environ, "NODE_PATH": os.environ["VITALD_SDK_MODULES"]}
        run = subprocess.run([NODE, CLIENT], env=environment, capture_output=True, text=True, timeout=120)
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
        self.assertIn("7 calls answered, 2 refused", run.stdout)


if __name__ == "__main__":
    unittest.main()
