// Node node-redis with RESP3; see redis_clients.js.

const { createClient } = require('@redis/client');
const { run } = require('./redis_clients.js');

async function main() {
  const [port, password, work, count] = process.argv.slice(2);
  const client = createClient({ socket: { port: Number(port), reconnectStrategy: false }, password, RESP: 3 });
  client.on('error', (error) => {
    console.error(error);
    process.exit(1);
  });
  await client.connect();
  await run((words) => client.sendCommand(words), work, count);
  await client.close();
}

main();
