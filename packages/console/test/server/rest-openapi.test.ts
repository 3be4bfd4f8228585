import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type RestFixture, createRestFixture } from '../../../server/test/rest-fixture.js';

interface Operation {
  readonly operationId?: string;
  readonly summary?: string;
  readonly security?: readonly Record<string, unknown>[];
  readonly parameters?: readonly { name: string; in: string; required?: boolean; schema?: object }[];
  readonly requestBody?: { content: Record<string, { schema: object }>; required?: boolean };
  readonly responses: Record<string, { description?: string; content?: Record<string, { schema: object }> }>;
}

interface Document {
  readonly openapi: string;
  readonly info: { title: string; version: string };
  readonly paths: Record<string, Record<string, Operation>>;
  readonly components: Record<string, Record<string, object>>;
}

let rest: RestFixture;
let document: Document;
let operations: { method: string; path: string; operation: Operation }[];

beforeAll(async () => {
  rest = await createRestFixture();
  const { status, headers, body } = await rest.ask(null, 'GET', '/api/openapi.json');
  expect(status).toBe(200);
  expect(headers.get('content-type')).toMatch(/^application\/json/);
  document = body as unknown as Document;
  operations = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ method, path, operation })),
  );
});

afterAll(async () => {
  await rest.close();
});

it('describes every route of the server', () => {
  expect(operations.map(({ method, path }) => `${method} ${path}`).sort()).toStrictEqual([
    'delete /api/features/{id}',
    'get /api/audit',
    'get /api/audit/export',
    'get /api/audit/histogram',
    'get /api/auth/me',
    'get /api/auth/mode',
    'get /api/events',
    'get /api/features',
    'get /api/features/{id}',
    'get /api/openapi.json',
    'get /api/pending-changes',
    'get /api/pending-changes/{id}',
    'get /api/projects',
    'get /api/snapshot',
    'get /api/ws',
    'get /healthz',
    'get /metrics',
    'get /readyz',
    'patch /api/environments/{id}',
    'patch /api/features/{id}',
    'post /api/auth/login',
    'post /api/events',
    'post /api/features',
    'post /api/pending-changes/{id}/approve',
    'post /api/pending-changes/{id}/cancel',
    'post /api/pending-changes/{id}/reject',
  ]);
});

it('describes only existing routes, and whether they need a token', async () => {
  for (const { method, path, operation } of operations) {
    const response = await fetch(`${rest.server.httpUrl}${path.replace('{id}', randomUUID())}`, {
      method: method.toUpperCase(),
    });
    const text = await response.text();
    expect(`${method} ${path}: ${text}`).not.toContain('"not_found"');
    const statuses = Object.keys(operation.responses);
    // An upgrade is missing, not a token: a plain GET never gets that far.
    if (path === '/api/ws') expect(response.status).toBe(426);
    else if (['/api/events', '/api/snapshot'].includes(path)) expect(response.status).toBe(400);
    else expect(response.status === 401).toBe(operation.security !== undefined);
    expect(statuses).toContain(String(response.status));
  }
});

it('is a well-formed document of OpenAPI 3.1', () => {
  expect(document.openapi).toBe('3.1.0');
  expect(document.info).toMatchObject({ title: 'Flagcast', version: '1' });
  const ids = operations.map(({ operation }) => operation.operationId);
  expect(new Set(ids).size).toBe(ids.length);
  expect(ids).not.toContain(undefined);
  for (const { method, path, operation } of operations) {
    const where = `${method} ${path}`;
    expect(operation.summary, where).toMatch(/\S/);
    const parameters = operation.parameters ?? [];
    const inPath = parameters.filter((parameter) => parameter.in === 'path');
    const placeholders = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name);
    expect(
      inPath.map(({ name }) => name),
      where,
    ).toStrictEqual(placeholders);
    for (const parameter of parameters) {
      expect(['path', 'query'], where).toContain(parameter.in);
      expect(parameter.schema, `${where} ${parameter.name}`).toBeTypeOf('object');
      if (parameter.in === 'path') expect(parameter.required).toBe(true);
    }
    const keys = parameters.map((parameter) => `${parameter.in} ${parameter.name}`);
    expect(new Set(keys).size, where).toBe(keys.length);
    if (operation.requestBody !== undefined) {
      expect(['post', 'patch', 'delete'], where).toContain(method);
      expect(operation.requestBody.content['application/json']?.schema, where).toBeTypeOf('object');
    }
    for (const [status, response] of Object.entries(operation.responses)) {
      expect(status, where).toMatch(/^[1-5]\d\d$/);
      expect(response.description, `${where} ${status}`).toMatch(/\S/);
    }
    for (const scheme of (operation.security ?? []).flatMap((each) => Object.keys(each))) {
      expect(document.components['securitySchemes']).toHaveProperty(scheme);
    }
  }
});

it('contains everything that it refers to', () => {
  const references = [...JSON.stringify(document).matchAll(/"\$ref":"([^"]+)"/g)].map(
    ([, name = '']) => name,
  );
  expect(references.length).toBeGreaterThan(20);
  for (const reference of new Set(references)) {
    const steps = reference.replace(/^#\//, '').split('/');
    const found = steps.reduce<unknown>(
      (at, step) =>
        typeof at === 'object' && at !== null ? (at as Record<string, unknown>)[step] : undefined,
      document,
    );
    expect(found, reference).toBeTypeOf('object');
  }
});

it('has the limits of the lengths of texts', () => {
  const schemas = document.components['schemas'] ?? {};
  expect(schemas['NewFeature']).toMatchObject({
    required: ['project_id', 'key', 'name'],
    properties: { key: { maxLength: 50 }, name: { minLength: 1, maxLength: 50 } },
  });
  expect(schemas['FeatureUpdate']).toMatchObject({ properties: { default_value: { maxLength: 128 } } });
});
