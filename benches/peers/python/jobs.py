"""FastStream and SQLAlchemy at one job: jobs.py JOB DATABASE RABBITMQ NUMBER

FastStream has no outbox of its own, so the table and the relay are what its users write. Says "ready",
waits for a line, does the job, and says in JSON how much was done in how many seconds.
"""

import asyncio
import json
import sys
import time

import uvloop
from faststream.rabbit import Channel, QueueType, RabbitBroker, RabbitQueue
from pydantic import BaseModel
from sqlalchemy import BigInteger, Identity, LargeBinary, Text, delete, select
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

QUEUE = "orders"
WRITERS = 8
BATCH = 500
PREFETCH = 300


class Base(DeclarativeBase):
    pass


class Order(Base):
    """The business row. The table is there already."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger)
    customer: Mapped[str] = mapped_column(Text)
    total: Mapped[int] = mapped_column(BigInteger)


class Outbox(Base):
    __tablename__ = "outbox"
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    queue: Mapped[str] = mapped_column(Text)
    payload: Mapped[bytes] = mapped_column(LargeBinary)


class Placed(BaseModel):
    """What is sent."""

    id: int
    customer: str
    total: int
    at: int


def placed(number):
    """As large as the others' message."""
    customer = "a customer of the shop, whose name is not short"
    return Placed(id=number, customer=customer, total=4200, at=time.time_ns())


def record(number):
    return Outbox(queue=QUEUE, payload=placed(number).model_dump_json().encode())


async def make(engine):
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)


async def tx(database, _, seconds):
    engine = create_async_engine(database, pool_size=WRITERS)
    await make(engine)
    sessions = async_sessionmaker(engine, expire_on_commit=False)
    count = 0

    async def write(end):
        nonlocal count
        while time.perf_counter() < end:
            count += 1
            number = count
            async with sessions.begin() as session:
                session.add(Order(number=number, customer="a customer of the shop", total=4200))
                session.add(record(number))

    await ready()
    start = time.perf_counter()
    async with asyncio.TaskGroup() as writers:
        for _ in range(WRITERS):
            writers.create_task(write(start + seconds))
    told(count, start)
    await engine.dispose()


async def fill(database, _, number):
    engine = create_async_engine(database)
    await make(engine)
    sessions = async_sessionmaker(engine)
    await ready()
    start = time.perf_counter()
    for first in range(0, int(number), 1000):
        async with sessions.begin() as session:
            session.add_all(record(n) for n in range(first, min(first + 1000, int(number))))
    told(int(number), start)
    await engine.dispose()


async def relay(database, rabbitmq, number):
    engine = create_async_engine(database)
    sessions = async_sessionmaker(engine)
    # Confirms are its default, and it waits for each.
    broker = RabbitBroker(rabbitmq, logger=None)
    await ready()
    start = time.perf_counter()
    await broker.connect()
    done = 0
    while done < number:
        async with sessions.begin() as session:
            batch = select(Outbox).order_by(Outbox.id).limit(BATCH).with_for_update(skip_locked=True)
            records = (await session.scalars(batch)).all()
            await asyncio.gather(
                *(
                    broker.publish(
                        it.payload,
                        queue=it.queue,
                        persist=True,
                        content_type="application/json",
                    )
                    for it in records
                )
            )
            sent = [it.id for it in records]
            await session.execute(
                delete(Outbox)
                .where(Outbox.id.in_(sent))
                .execution_options(synchronize_session=False)
            )
        done += len(records)
    told(done, start)
    await broker.stop()
    await engine.dispose()


async def consume(_, rabbitmq, number):
    broker = RabbitBroker(
        rabbitmq, default_channel=Channel(prefetch_count=PREFETCH), logger=None
    )
    queue = RabbitQueue(QUEUE, durable=True, queue_type=QueueType.QUORUM)
    done = 0
    all_done = asyncio.Event()

    @broker.subscriber(queue)
    async def handle(order: Placed):
        nonlocal done
        done += 1
        if done >= number:
            all_done.set()

    await ready()
    start = time.perf_counter()
    await broker.start()
    await all_done.wait()
    told(done, start)
    await broker.stop()


async def ready():
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


def told(count, start):
    seconds = time.perf_counter() - start
    print(json.dumps({"count": count, "seconds": seconds}), flush=True)


if __name__ == "__main__":
    job, database, rabbitmq, number = sys.argv[1:]
    jobs = {"tx": tx, "fill": fill, "relay": relay, "consume": consume}
    uvloop.run(jobs[job](database, rabbitmq, float(number)))
