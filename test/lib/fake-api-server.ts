/**
 * A fake Kubernetes API server, as far as kubectl needs one: discovery, and objects that are kept as they are sent. It admits
 * everything, runs nothing, and says of each DaemonSet that all of its pods are there.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface KubeObject {
  apiVersion: string;
  kind: string;
  metadata: { name: string; namespace?: string; labels?: Record<string, string>; [key: string]: unknown };
  [key: string]: unknown;
}

interface Resource {
  /** Below /api or /apis. */
  version: string;
  name: string;
  kind: string;
  namespaced: boolean;
}

const RESOURCES: readonly Resource[] = [
  { version: 'v1', name: 'nodes', kind: 'Node', namespaced: false },
  { version: 'v1', name: 'namespaces', kind: 'Namespace', namespaced: false },
  { version: 'v1', name: 'pods', kind: 'Pod', namespaced: true },
  { version: 'v1', name: 'serviceaccounts', kind: 'ServiceAccount', namespaced: true },
  { version: 'v1', name: 'configmaps', kind: 'ConfigMap', namespaced: true },
  { version: 'apps/v1', name: 'daemonsets', kind: 'DaemonSet', namespaced: true },
  { version: 'batch/v1', name: 'jobs', kind: 'Job', namespaced: true },
  { version: 'node.k8s.io/v1', name: 'runtimeclasses', kind: 'RuntimeClass', namespaced: false },
  ...['Role', 'RoleBinding', 'ClusterRole', 'ClusterRoleBinding'].map((kind) => ({
    version: 'rbac.authorization.k8s.io/v1',
    name: `${kind.toLowerCase()}s`,
    kind,
    namespaced: !kind.startsWith('Cluster'),
  })),
];
const VERBS = ['create', 'delete', 'get', 'list', 'patch', 'update', 'watch'];
/** An OpenAPI document that knows no type, as protobuf: fields 1 (swagger) and 2 (info: title, version). */
const OPENAPI = Buffer.from('0a03322e30120a0a0466616b6512023030', 'hex');

/** Where a request leads. */
interface Target {
  resource: Resource;
  namespace: string | undefined;
  name: string | undefined;
}

export class FakeApiServer {
  readonly #server: Server;
  readonly #objects = new Map<string, KubeObject>();
  #version = 1;

  private constructor() {
    this.#server = createServer((request, response) => {
      void this.#answer(request, response).catch((error: unknown) => response.destroy(error as Error));
    });
  }

  static async start(): Promise<FakeApiServer> {
    const fake = new FakeApiServer();
    await new Promise<void>((resolve) => fake.#server.listen(0, '127.0.0.1', resolve));
    return fake;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  add(object: KubeObject): void {
    const resource = RESOURCES.find(({ kind }) => kind === object.kind);
    if (!resource) throw new Error(`a ${object.kind}`);
    const { namespace, name } = object.metadata;
    this.#put({ resource, namespace, name }, object);
  }

  get(kind: string, name: string): KubeObject | undefined {
    return this.all().find((object) => object.kind === kind && object.metadata.name === name);
  }

  all(): KubeObject[] {
    return [...this.#objects.values()];
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '', this.url);
    const say = (status: number, body: object) => {
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    };
    if (url.pathname === '/openapi/v2') {
      response.writeHead(200, {
        'content-type': 'application/octet-stream',
      });
      response.end(OPENAPI);
      return;
    }
    const found = discovery(url.pathname);
    if (found) return say(200, found);
    const target = targetOf(url.pathname);
    if (!target) return say(404, missing(url.pathname));
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(Buffer.from(part as Uint8Array));
    const body = parts.length > 0 ? (JSON.parse(Buffer.concat(parts).toString()) as KubeObject) : undefined;
    // Nothing ever happens.
    if (url.searchParams.get('watch')) return void response.writeHead(200).flushHeaders();
    const there = this.#objects.get(keyOf(target));
    switch (request.method) {
      case 'POST':
        if (!body) return say(400, missing('body'));
        return say(201, this.#put({ ...target, name: body.metadata.name }, body));
      case 'PUT':
      case 'PATCH':
        if (!there || !body) return say(404, missing(url.pathname));
        return say(200, this.#put(target, request.method === 'PUT' ? body : merged(there, body)));
      case 'DELETE':
        this.#objects.delete(keyOf(target));
        return there ? say(200, there) : say(404, missing(url.pathname));
      default:
        if (target.name === undefined) return say(200, this.#list(target, url.searchParams));
        return there ? say(200, there) : say(404, missing(url.pathname));
    }
  }

  #put(target: Target, object: KubeObject): KubeObject {
    this.#version += 1;
    const { namespace, resource } = target;
    const pods = { desiredNumberScheduled: 1, updatedNumberScheduled: 1, numberAvailable: 1 };
    const kept: KubeObject = {
      ...object,
      metadata: {
        ...object.metadata,
        ...(namespace === undefined ? {} : { namespace }),
        uid: keyOf(target),
        resourceVersion: `${this.#version}`,
        generation: 1,
      },
      ...(resource.kind === 'DaemonSet' ? { status: { observedGeneration: 1, ...pods } } : {}),
    };
    this.#objects.set(keyOf(target), kept);
    return kept;
  }

  #list({ resource, namespace }: Target, query: URLSearchParams): object {
    const label = query.get('labelSelector')?.split('=');
    const field = query.get('fieldSelector')?.split('=');
    const items = this.all().filter(
      ({ kind, metadata, spec }) =>
        kind === resource.kind &&
        (namespace === undefined || metadata.namespace === namespace) &&
        (!label || metadata.labels?.[label[0] ?? ''] === label[1]) &&
        (field?.[0] !== 'metadata.name' || metadata.name === field[1]) &&
        (field?.[0] !== 'spec.nodeName' || (spec as { nodeName?: string }).nodeName === field[1]),
    );
    const apiVersion = resource.version;
    return {
      apiVersion,
      kind: `${resource.kind}List`,
      metadata: { resourceVersion: `${this.#version}` },
      items,
    };
  }
}

function discovery(path: string): object | undefined {
  const groups = [...new Set(RESOURCES.map(({ version }) => version).filter((one) => one.includes('/')))];
  if (path === '/api') return { kind: 'APIVersions', versions: ['v1'] };
  if (path === '/apis') {
    const named = groups.map((groupVersion) => {
      const [name, version] = groupVersion.split('/');
      const only = { groupVersion, version };
      return { name, versions: [only], preferredVersion: only };
    });
    return { kind: 'APIGroupList', apiVersion: 'v1', groups: named };
  }
  const version = path.replace(/^\/apis?\//, '');
  const resources = RESOURCES.filter((one) => one.version === version);
  if (resources.length === 0) return undefined;
  const listed = resources.map(({ name, kind, namespaced }) => ({
    name,
    singularName: kind.toLowerCase(),
    namespaced,
    kind,
    verbs: VERBS,
  }));
  return { kind: 'APIResourceList', apiVersion: 'v1', groupVersion: version, resources: listed };
}

function targetOf(path: string): Target | undefined {
  for (const resource of RESOURCES) {
    const base = `/${resource.version.includes('/') ? 'apis' : 'api'}/${resource.version}/`;
    if (!path.startsWith(base)) continue;
    const rest = path.slice(base.length).split('/');
    const namespace = rest[0] === 'namespaces' && rest.length > 2 ? rest[1] : undefined;
    const [name, object] = namespace === undefined ? rest : rest.slice(2);
    if (name === resource.name) return { resource, namespace, name: object };
  }
  return undefined;
}

function keyOf({ resource, namespace = '', name = '' }: Target): string {
  return `${resource.name}/${namespace}/${name}`;
}

function missing(what: string): object {
  const message = `${what} not found`;
  return { kind: 'Status', apiVersion: 'v1', status: 'Failure', reason: 'NotFound', code: 404, message };
}

/** RFC 7386; a strategic merge patch of what the tests send means the same. */
function merged<Value>(into: Value, patch: unknown): Value {
  if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) return patch as Value;
  const result: Record<string, unknown> = { ...(into as Record<string, unknown>) };
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key];
    else result[key] = merged(result[key] ?? {}, value);
  }
  return result as Value;
}
