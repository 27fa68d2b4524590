// @ts-check
/**
 * A server that answers with the name of the pod it runs in, also after it was restored in another one.
 *
 *     node example.js [PORT]
 */
import { createServer } from 'node:http';
import { hostname } from 'node:os';
import { randomBytes, Watch } from './thaw.js';

const watch = new Watch();
// What many programs do once, when they start.
let name = process.env['POD_NAME'] ?? hostname();

createServer((_request, response) => {
  const restore = watch.restored();
  if (restore) {
    restore.apply();
    name = restore.pod?.name ?? restore.hostname ?? name;
  }
  response.end(`${name} ${randomBytes(8).toString('hex')}\n`);
}).listen(Number(process.argv[2] ?? 8080));
