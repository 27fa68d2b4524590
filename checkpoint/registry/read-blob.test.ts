import { describe, expect, test } from 'vitest';
import { Code } from '../../proto/status.ts';
import { digestOf } from '../digest.ts';
import { seeded } from '../random.test-helper.ts';
import { all, connect, server, useTwoRegistries } from './two-registries.test-helper.ts';

const data = seeded(7).bytes(300_000);
useTwoRegistries();

describe('ranges', () => {
  test('exactly the bytes asked for come', async () => {
    const blob = server.addBlob(data);
    for (const [offset, length] of [
      [0, 1],
      [0, data.length],
      [data.length - 1, 1],
      [12_345, 100_000],
    ] as const)
      expect(
        (await all(connect().readRange('a/b', blob.digest, offset, length))).equals(
          data.subarray(offset, offset + length),
        ),
      ).toBe(true);
  });

  test('a whole body instead of a range is skipped into', async () => {
    const blob = server.addBlob(data);
    server.fault = (request) => {
      delete request.headers.range;
      return false;
    };
    const got = await all(connect().readRange('a/b', blob.digest, 100_000, 1000));
    expect(got.equals(data.subarray(100_000, 101_000))).toBe(true);
  });

  test('a whole body is not skipped into for ever', async () => {
    server.fault = (_, response) => {
      response.writeHead(200);
      response.write(Buffer.alloc(1000));
      return true;
    };
    await expect(all(connect().readRange('a/b', digestOf('x'), 2 ** 32, 10))).rejects.toMatchObject({
      code: Code.failedPrecondition,
    });
  });

  test('416 means that the blob is shorter than the image says', async () => {
    const blob = server.addBlob(data);
    await expect(all(connect().readRange('a/b', blob.digest, data.length, 1))).rejects.toThrow('shorter');
    expect(server.requests).toHaveLength(1);
  });

  test('another range than was asked for is never handed out', async () => {
    for (const header of [
      'bytes 1-10/300000',
      'bytes 0-10/300000',
      'bytes 0-/1',
      'items 0-9/10',
      undefined,
    ]) {
      server.fault = (_, response) => {
        response.writeHead(206, header === undefined ? {} : { 'content-range': header }).end('x'.repeat(10));
        return true;
      };
      await expect(all(connect().readRange('a/b', digestOf('x'), 0, 10))).rejects.toThrow('another range');
    }
  });

  test('a range that is longer than it says is cut', async () => {
    server.fault = (_, response) => {
      response.writeHead(206, { 'content-range': 'bytes 0-9/300000' }).end(data.subarray(0, 500));
      return true;
    };
    expect(await all(connect().readRange('a/b', digestOf('x'), 0, 10))).toEqual(data.subarray(0, 10));
  });

  test('a compressed answer is refused', async () => {
    server.fault = (_, response) => {
      response.writeHead(206, { 'content-range': 'bytes 0-9/10', 'content-encoding': 'gzip' }).end('x');
      return true;
    };
    await expect(all(connect().readRange('a/b', digestOf('x'), 0, 10))).rejects.toThrow('content encoding');
  });

  test('a server that speaks something else is named, with what it did', async () => {
    server.fault = (request) => {
      request.socket.end('SSH-2.0-x\r\n\r\n');
      return true;
    };
    await expect(all(connect().readRange('a/b', digestOf('x'), 0, 10))).rejects.toThrow(
      'does not speak HTTP/1.1 as it should',
    );
  });

  test('a short answer is continued where it ended', async () => {
    const blob = server.addBlob(data);
    server.fault = (request, response) => {
      const [, first, last] = /bytes=(\d+)-(\d+)/.exec(request.headers.range ?? '') ?? [];
      const end = Math.min(Number(first) + 99_999, Number(last));
      response.writeHead(206, { 'content-range': `bytes ${first}-${end}/${data.length}` });
      response.end(data.subarray(Number(first), end + 1));
      return true;
    };
    expect((await all(connect().readRange('a/b', blob.digest, 0, data.length))).equals(data)).toBe(true);
    expect(server.requests.map((r) => r.headers.range)).toEqual([
      'bytes=0-299999',
      'bytes=100000-299999',
      'bytes=200000-299999',
    ]);
  });

  test('a connection that breaks is continued where it broke', async () => {
    const blob = server.addBlob(data);
    server.fault = (_, response, n) => {
      if (n > 1) return false;
      response.writeHead(206, {
        'content-range': `bytes 0-${data.length - 1}/${data.length}`,
        'content-length': data.length,
      });
      response.write(data.subarray(0, 1000), () => response.destroy());
      return true;
    };
    expect((await all(connect().readRange('a/b', blob.digest, 0, data.length))).equals(data)).toBe(true);
    expect(server.requests).toHaveLength(2);
  });

  test('a body that always breaks fails in the end', async () => {
    server.fault = (_, response) => {
      response.writeHead(206, { 'content-range': 'bytes 0-9/10', 'content-length': 10 });
      response.write('x', () => response.destroy());
      return true;
    };
    await expect(all(connect().readRange('a/b', digestOf('x'), 0, 10))).rejects.toMatchObject({
      code: Code.unavailable,
    });
    expect(server.requests.length).toBeLessThanOrEqual(3);
  });

  test('a body that stops, or drips, meets a deadline', async () => {
    for (const drip of [false, true]) {
      const timers: NodeJS.Timeout[] = [];
      server.fault = (_, response) => {
        response.writeHead(206, { 'content-range': 'bytes 0-99999/100000', 'content-length': 100_000 });
        response.write('x');
        if (drip) timers.push(setInterval(() => response.write('x'), 20));
        return true;
      };
      await expect(
        all(connect({ retry: { attempts: 1 } }).readRange('a/b', digestOf('x'), 0, 100_000)),
      ).rejects.toMatchObject({ code: Code.deadlineExceeded });
      for (const timer of timers) clearInterval(timer);
    }
  });

  test('a slow consumer is not a slow registry', async () => {
    const blob = server.addBlob(data);
    let bytes = 0;
    for await (const part of connect().readRange('a/b', blob.digest, 0, data.length)) {
      if (bytes === 0) await new Promise((done) => setTimeout(done, 700));
      bytes += part.length;
    }
    expect(bytes).toBe(data.length);
    expect(server.requests).toHaveLength(1);
  });

  test('leaving the loop ends the transfer', async () => {
    const closed = new Promise<void>((done) => {
      server.fault = (_, response) => {
        response.on('close', done);
        response.writeHead(206, { 'content-range': 'bytes 0-999999/1000000', 'content-length': 1_000_000 });
        response.write(data);
        return true;
      };
    });
    for await (const _ of connect().readRange('a/b', digestOf('x'), 0, 1_000_000)) break;
    await closed;
  });
});

describe('whole blobs', () => {
  test('are verified', async () => {
    const blob = server.addBlob(data);
    expect((await all(connect().readBlob('a/b', blob))).equals(data)).toBe(true);
    const damaged = Buffer.from(data);
    damaged[1000] = (damaged[1000] ?? 0) ^ 1;
    server.blobs.set(blob.digest, damaged);
    await expect(all(connect().readBlob('a/b', blob))).rejects.toMatchObject({ code: Code.dataLoss });
  });

  test('are continued by range and still verified', async () => {
    const blob = server.addBlob(data);
    server.fault = (_, response, n) => {
      if (n > 1) return false;
      response.writeHead(200, { 'content-length': data.length });
      response.write(data.subarray(0, 100_000), () => response.destroy());
      return true;
    };
    expect((await all(connect().readBlob('a/b', blob))).equals(data)).toBe(true);
    expect(server.requests[1]?.headers.range).toMatch(/^bytes=\d+-299999$/);
  });

  test('of another length are refused', async () => {
    const blob = server.addBlob(data);
    await expect(all(connect().readBlob('a/b', { ...blob, size: data.length + 1 }))).rejects.toThrow(
      '300000',
    );
    server.fault = (_, response) => {
      response.write(data);
      response.end('more');
      return true;
    };
    await expect(all(connect().readBlob('a/b', blob))).rejects.toThrow('longer');
  });
});
