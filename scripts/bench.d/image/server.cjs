/** The Node server of `scripts/bench image`: what many do at their start, and an answer that does not depend on when. */
const { createHash } = require('node:crypto');
const { readdirSync, readFileSync } = require('node:fs');
const { createServer } = require('node:http');
const { gzipSync } = require('node:zlib');

// As a server with its templates and translations.
const texts = readdirSync('/etc')
  .filter((name) => name.endsWith('release') || name.endsWith('version'))
  .map((name) => readFileSync(`/etc/${name}`, 'utf8'));
const format = new Intl.DateTimeFormat('de', { dateStyle: 'full', timeZone: 'UTC' });
const table = Array.from({ length: 200_000 }, (_, i) => createHash('md5').update(String(i)).digest('hex'));

createServer((request, response) => {
  const page = [request.url, format.format(0), ...texts, ...table.slice(0, 1000)].join('\n');
  const digest = createHash('sha256').update(gzipSync(page)).digest('hex');
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify({ digest }));
}).listen(8080);
