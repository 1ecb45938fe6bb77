"""``python emulator.py PORT``: moto on the loopback address, with an SQS that loses nothing.

``moto.server`` gives each request a thread and a connection of its own. A message that it adds
while another thread deletes one is lost (moto/sqs/models.py: ``delete_message`` makes the list
anew). Here requests take turns, and a client keeps its connection.
"""

# ruff: noqa: E402 the patch comes before all that it changes
from gevent import monkey

monkey.patch_all()

import sys
import time

from gevent.pywsgi import WSGIServer
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.sqs import models

# It asks for the time several times for each message of the queue, at each message that it hands
# out, and takes most of its own time to answer. This is the same clock.
models.unix_time = time.time
models.unix_time_millis = lambda: time.time() * 1000

if __name__ == "__main__":
    services = DomainDispatcherApplication(create_backend_app)
    WSGIServer(("127.0.0.1", int(sys.argv[1])), services, log=None).serve_forever()
