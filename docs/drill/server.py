import http.server, os, time


class App(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path.startswith("/sleep/"):
            time.sleep(int(self.path[7:]) / 1000)
        self.send_response(200)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"ok\n")

    def log_message(self, *_):
        pass


address = ("127.0.0.1", int(os.environ["PORT"]))
http.server.ThreadingHTTPServer(address, App).serve_forever()
