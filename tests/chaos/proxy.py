"""A TCP proxy that misbehaves: it cuts connections, delays what passes, and drops answers."""
import asyncio
import random
import threading


async def cancel(tasks):
    for t in tasks:
        t.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class Proxy:
    """Listens on a port of its own and forwards to the target, a port or the path of a unix socket, in a thread with an event
    loop. While it is calm, as at first, it only forwards."""

    # What may happen to a connection, and how often.
    FATES = (("pass", 50), ("cut", 15), ("drop answer", 20), ("delay", 15))

    def __init__(self, target, seed):
        self.target = target
        self.random = random.Random(seed)
        self.calm = True
        self.happened = {name: 0 for name, _ in self.FATES}
        self._started = threading.Event()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        self._started.wait(10)

    def _run(self):
        asyncio.set_event_loop(self.loop)
        server = self.loop.run_until_complete(asyncio.start_server(self._connection, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        self.loop.run_forever()
        self.loop.run_until_complete(cancel(asyncio.all_tasks(self.loop)))
        server.close()
        self.loop.close()

    def stop(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)

    def _fate(self):
        if self.calm:
            return "pass"
        names, weights = zip(*self.FATES)
        return self.random.choices(names, weights)[0]

    def _connect(self):
        if isinstance(self.target, str):
            return asyncio.open_unix_connection(self.target)
        return asyncio.open_connection("127.0.0.1", self.target)

    async def _connection(self, reader, writer):
        fate = self._fate()
        self.happened[fate] += 1
        try:
            up_reader, up_writer = await self._connect()
        except OSError:
            writer.close()
            return
        # A connection that is not interfered with lives on for a while, and is then cut at any place.
        life = None if self.calm else self.random.uniform(0.05, 3.0)
        pumps = [asyncio.create_task(self._pump(reader, up_writer, fate, False)),
                 asyncio.create_task(self._pump(up_reader, writer, fate, True))]
        try:
            # One that began in calm is cut when that is over.
            done, left = await asyncio.wait(pumps, timeout=life or 0.2, return_when=asyncio.FIRST_COMPLETED)
            while life is None and self.calm and not done:
                done, left = await asyncio.wait(left, timeout=0.2, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for w in (writer, up_writer):
                w.transport.abort()
            await cancel(pumps)

    async def _pump(self, reader, writer, fate, is_answer):
        left = self.random.randrange(1, 60000) if fate == "cut" and not is_answer else None
        answers = self.random.randrange(0, 5)
        while True:
            data = await reader.read(65536)
            if not data:
                raise EOFError
            if fate == "delay":
                await asyncio.sleep(self.random.uniform(0, 0.1))
            if fate == "drop answer" and is_answer:
                answers -= 1
                if answers < 0:
                    raise EOFError
            if left is not None:
                data = data[:left]
                left -= len(data)
            writer.write(data)
            await writer.drain()
            if left == 0:
                raise EOFError
