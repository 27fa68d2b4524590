import { describe, expect, test } from 'vitest';
import { Code } from '../../proto/status.ts';
import { digestOf } from '../digest.ts';
import { seeded } from '../random.test-helper.ts';
import type { RegistryClient } from './client.ts';
import { FaultServer } from './fault-server.test-helper.ts';
import { mediaTypes } from './media-types.ts';
import { parseReference } from './reference.ts';
import { all, connect, server, useTwoRegistries } from './two-registries.test-helper.ts';

const platform = { os: 'linux', architecture: 'amd64' };
const data = seeded(7).bytes(300_000);
useTwoRegistries();

describe('manifests', () => {
  function addImage(tag: string): string {
    const config = server.addBlob(
      Buffer.from(
        JSON.stringify({
          os: 'linux',
          architecture: 'amd64',
          rootfs: { type: 'layers', diff_ids: [digestOf('l')] },
        }),
      ),
    );
    return server.addManifest('a/b', tag, mediaTypes.ociManifest, {
      schemaVersion: 2,
      mediaType: mediaTypes.ociManifest,
      config: { mediaType: mediaTypes.ociConfig, ...config },
      layers: [{ mediaType: mediaTypes.ociLayerGzip, digest: digestOf('z'), size: 1 }],
    });
  }
  const image = (client: RegistryClient, tag: string) =>
    client.image(parseReference(`${server.host}/a/b${tag}`), platform);

  test('an image is read by tag and by digest', async () => {
    const digest = addImage('v1');
    for (const selector of [':v1', `@${digest}`]) {
      const pulled = await image(connect(), selector);
      expect(pulled.descriptor.digest).toBe(digest);
      expect(pulled.config.rootfs.diff_ids).toHaveLength(1);
    }
  });

  test('an index leads to the platform asked for', async () => {
    const digest = addImage('single');
    const entry = (architecture: string, d: string) => ({
      mediaType: mediaTypes.ociManifest,
      digest: d,
      size: 1,
      platform: { os: 'linux', architecture },
    });
    server.addManifest('a/b', 'multi', mediaTypes.ociIndex, {
      schemaVersion: 2,
      manifests: [entry('arm64', digestOf('none')), entry('amd64', digest)],
    });
    expect((await image(connect(), ':multi')).descriptor.digest).toBe(digest);
    server.addManifest('a/b', 'arm', mediaTypes.ociIndex, {
      schemaVersion: 2,
      manifests: [entry('arm64', digestOf('none'))],
    });
    await expect(image(connect(), ':arm')).rejects.toThrow('no linux/amd64 variant (it has linux/arm64)');
  });

  test('bytes that do not have the digest asked for are refused', async () => {
    const digest = addImage('v1');
    server.manifests.set(`a/b:${digest}`, { mediaType: mediaTypes.ociManifest, bytes: Buffer.from('{}') });
    await expect(image(connect(), `@${digest}`)).rejects.toMatchObject({ code: Code.dataLoss });
  });

  test('a config that was changed is refused', async () => {
    addImage('v1');
    for (const [digest, bytes] of server.blobs)
      server.blobs.set(digest, Buffer.from(bytes.toString().replace('linux', 'LINUX')));
    await expect(image(connect(), ':v1')).rejects.toMatchObject({ code: Code.dataLoss });
  });

  test('a manifest that poses as an index is refused', async () => {
    server.addManifest('a/b', 'odd', mediaTypes.ociIndex, { schemaVersion: 2, manifests: [], layers: [] });
    await expect(image(connect(), ':odd')).rejects.toThrow('neither an image nor an image index');
  });

  test('404 names the registry, the repository and what to do', async () => {
    await expect(image(connect(), ':gone')).rejects.toMatchObject({
      code: Code.notFound,
      message: `Cannot read the manifest gone: registry ${server.host} answered 404 for a/b (MANIFEST_UNKNOWN: manifest unknown); check the name and tag`,
    });
  });

  test('a web server that is no registry is no image', async () => {
    server.fault = (_, response) => {
      response.end('<html>hello</html>');
      return true;
    };
    await expect(image(connect(), ':v1')).rejects.toThrow('it is no JSON');
  });

  test('a manifest without end is refused', async () => {
    server.fault = (_, response) => {
      response.write(Buffer.alloc(5_000_000, 32));
      return true;
    };
    await expect(image(connect(), ':v1')).rejects.toMatchObject({ code: Code.resourceExhausted });
  });

  test('is pushed and read back', async () => {
    const bytes = Buffer.from('{"schemaVersion":2}');
    const digest = await connect().pushManifest('a/b', 'new', mediaTypes.ociManifest, bytes);
    expect(digest).toBe(digestOf(bytes));
    expect(server.manifests.get('a/b:new')).toEqual({ mediaType: mediaTypes.ociManifest, bytes });
  });
});

describe('statuses', () => {
  test('429 with Retry-After is waited for', async () => {
    const blob = server.addBlob(data);
    server.fault = (_, response, n) => {
      if (n > 1) return false;
      response.writeHead(429, { 'retry-after': '1' }).end();
      return true;
    };
    const started = performance.now();
    await all(connect().readRange('a/b', blob.digest, 0, 10));
    expect(performance.now() - started).toBeGreaterThan(900);
  });

  test('500 is tried again and then reported', async () => {
    server.fault = (_, response) => {
      response.writeHead(500).end('oops');
      return true;
    };
    await expect(connect().manifest('a/b', 'v1')).rejects.toMatchObject({
      code: Code.unavailable,
      context: { status: 500, repository: 'a/b' },
    });
    expect(server.requests).toHaveLength(3);
  });

  test('403 is not tried again', async () => {
    server.fault = (_, response) => {
      response.writeHead(403).end();
      return true;
    };
    await expect(connect().manifest('a/b', 'v1')).rejects.toMatchObject({ code: Code.permissionDenied });
    expect(server.requests).toHaveLength(1);
  });

  test('a registry that does not answer meets a deadline', async () => {
    server.fault = () => true;
    const client = connect({ retry: { attempts: 1 }, timeouts: { headersMs: 100 } });
    await expect(client.manifest('a/b', 'v1')).rejects.toMatchObject({ code: Code.deadlineExceeded });
  });

  test('a registry that is not there is named', async () => {
    const gone = await FaultServer.start();
    const { host } = gone;
    await gone.stop();
    const client = connect({ registry: host, retry: { attempts: 2, baseMs: 1, maxMs: 1 } });
    await expect(client.ping()).rejects.toThrow(`nothing listens on ${host}`);
  });

  test('the terminal is safe from what a registry says', async () => {
    server.fault = (_, response) => {
      response.writeHead(404).end('{"errors":[{"code":"X","message":"\\u001b[31mred"}]}');
      return true;
    };
    await expect(connect().manifest('a/b', 'v1')).rejects.toThrow('X: ?[31mred');
  });

  test('an aborted call ends at once as canceled, a timed out one as a deadline', async () => {
    server.fault = () => true;
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 20);
    await expect(connect().manifest('a/b', 'v1', { signal: controller.signal })).rejects.toMatchObject({
      code: Code.canceled,
    });
    await expect(connect().manifest('a/b', 'v1', { signal: AbortSignal.timeout(20) })).rejects.toMatchObject({
      code: Code.deadlineExceeded,
    });
  });
});
