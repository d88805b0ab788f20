# gunicorn behind vestibule: gunicorn -c gunicorn.conf.py
#
# Change the first two lines; the rest fits vestibule's defaults. Needs gunicorn 25.1 or newer.

wsgi_app = "mysite.wsgi"
bind = "unix:/run/mysite/gunicorn.sock"

# The socket is for vestibule alone: its group may connect, others may not.
umask = 0o007

# Threads keep a slow upload or a long answer from holding a whole process. For code that is not
# safe with threads: worker_class = "sync", threads = 1, and more workers.
worker_class = "gthread"
workers = 2
threads = 8

# Longer than vestibule keeps an idle connection (`[upstream] keepalive_timeout`, 1 second), so that
# it is always vestibule that closes, and no request meets a connection that is just going away.
keepalive = 5

# Who may say that a request came over https. A unix socket is always trusted, which is right here:
# vestibule replaces these headers. With a TCP address in `bind`, name vestibule's address.
forwarded_allow_ips = "127.0.0.1,::1"
# gunicorn would take SCRIPT_NAME and PATH_INFO from headers. vestibule drops them; so does this.
forwarder_headers = ""

# On SIGTERM running requests may finish. As long as vestibule's `[timeouts] shutdown`.
graceful_timeout = 30

# Heartbeats go to memory: on a slow disk they can hold a worker up.
worker_tmp_dir = "/dev/shm"

# vestibule writes the access log, with the request id that gunicorn gets as X-Request-ID.
accesslog = None
errorlog = "-"

# Workers are renewed now and then, not all at once. Remove it if memory does not grow.
max_requests = 10_000
max_requests_jitter = 1_000

# Without this gunicorn makes a control socket in the home directory, which a service often lacks.
control_socket_disable = True
