// Node ioredis; see redis_clients.js.

const Redis = require('ioredis');
const { run } = require('./redis_clients.js');

async function main() {
  const [port, password, work, count] = process.argv.slice(2);
  const client = new Redis({ port: Number(port), password, retryStrategy: null, lazyConnect: true });
  client.on('error', (error) => {
    console.error(error);
    process.exit(1);
  });
  await client.connect();
  await run(([name, ...words]) => client.call(name, words), work, count);
  await client.quit();
}

main();
