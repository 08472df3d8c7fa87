"""Celery: `URL publish EXCHANGE QUEUE` sends tasks, `URL work EXCHANGE QUEUE` runs tasks that others send.

Sent are tasks straight into the queue, as Celery does without further settings, and one over the exchange.
A task that is run is printed as JSON, one a line.
"""

import celery
import kombu

from common import ORDER, arguments, tell


def publish(app, exchange, queue):
    # The queue is the bus' own: Celery shall not declare it with other arguments.
    into = kombu.Queue(queue, no_declare=True)
    args, kwargs = [7, "Zoë"], {"express": True, "order": ORDER}

    def task(name, **options):
        app.send_task(name, args, kwargs, task_id=f"id-of-{name}", **options)

    task("shop.plain", queue=into)
    task("shop.options", queue=into, countdown=3600, expires=7200, priority=3, time_limit=30)
    task("shop.gzip", queue=into, compression="gzip")
    task("shop.msgpack", queue=into, serializer="msgpack")
    task("shop.exchange", exchange=exchange, exchange_type="topic", routing_key=exchange)
    old = celery.Celery("old", broker=app.conf.broker_url)
    old.conf.task_protocol = 1
    old.send_task("shop.protocol-1", args, kwargs, task_id="id-of-shop.protocol-1", queue=into)


def work(app, exchange, queue):
    topic = kombu.Exchange(exchange, type="topic", durable=True)
    app.conf.task_queues = [kombu.Queue(queue, topic, routing_key=exchange)]
    app.conf.worker_hijack_root_logger = False
    app.conf.worker_redirect_stdouts = False

    @app.task(name="shop.receipt", bind=True)
    def receipt(self, *args, **kwargs):
        request = self.request
        tell({"id": request.id, "args": args, "kwargs": kwargs, "tenant": request.get("tenant")})
        app.control.shutdown()

    options = ["--pool", "solo", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    app.worker_main(["--quiet", "worker", "--loglevel", "ERROR", *options])


def main():
    url, command, exchange, queue = arguments(4)
    app = celery.Celery("shop", broker=url)
    {"publish": publish, "work": work}[command](app, exchange, queue)


main()
