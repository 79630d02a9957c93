import contextlib, http.server, os, signal, sys, threading, time

GRACE, LAME_DUCK = 8, 2  # seconds
SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # in all threads: sigwait() takes them
leaving = threading.Event()


class App(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 3  # a silent connection holds its thread no longer

    def do_GET(self):
        if self.path.startswith("/sleep/"):
            time.sleep(int(self.path[7:]) / 1000)
        ready = not (self.path == "/readyz" and leaving.is_set())
        self.send_response(200 if ready else 503)
        self.send_header("Content-Length", "3")
        if leaving.is_set():
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"ok\n")

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = False  # so that server_close() waits for them
    request_queue_size = 128


def end_anyhow(first, began):
    while (left := began + GRACE - 1 - time.monotonic()) > 0:
        again = signal.sigtimedwait(SIGNALS, left)
        if again and (again.si_signo != first or time.monotonic() - began > 1):
            os._exit(128 + again.si_signo)  # somebody insists
    os._exit(3)  # the deadline, before the platform's SIGKILL


server = Server(("127.0.0.1", int(os.environ["PORT"])), App)
threading.Thread(target=server.serve_forever, args=[0.05]).start()
first = signal.sigwait(SIGNALS)
leaving.set()
threading.Thread(target=end_anyhow, args=[first, time.monotonic()], daemon=True).start()
if not (first == signal.SIGINT and sys.stderr.isatty()):
    time.sleep(LAME_DUCK)
server.shutdown()  # accepts no more,
waiting = []  # but those that are in the queue already: all of them first, and then serve
server.socket.setblocking(False)
with contextlib.suppress(BlockingIOError):
    while len(waiting) <= server.request_queue_size:
        waiting.append(server.get_request())
server.socket.close()
for request, client in waiting:
    request.setblocking(True)
    server.process_request(request, client)
server.server_close()  # waits for the threads
