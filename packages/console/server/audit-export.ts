import { createRoute, z, toError, RequestSlots } from 'flagcast/support';
import { auditFileName } from './audit-file-name.js';
import { type AuditPageJson, searchAudit } from './audit-search.js';
import { entryColumns } from './audit-statement.js';
import type { AuditRoutes } from './audit-routes.js';
import type { RestApp } from './rest.js';
import * as schemas from './schemas.js';

const maxEntries = 1_000_000;
/** One statement reads as many entries. */
const pageSize = 500;

type LastPage = Pick<AuditPageJson, 'next' | 'searched_until'>;

/** How a format writes the beginning, an entry and the end. `tail` says whether there is more than the file has. */
interface Encoding {
  readonly type: string;
  readonly head: string;
  readonly entry: (entry: string, index: number) => string;
  readonly tail: (last: LastPage) => string;
}

/**
 * A record of RFC 4180. A text that a spreadsheet would run as a formula gets an apostrophe: anybody who can name a flag
 * could otherwise run commands where the file is opened.
 */
function csvRecord(values: readonly (string | null)[]): string {
  const fields = values.map((value) => {
    const text = (value ?? '').replace(/^(?=[\t\r\n]|\s*[=+\-@＝＋－＠])/, "'");
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  });
  return `${fields.join(',')}\r\n`;
}

const isIncomplete = ({ next, searched_until: until }: LastPage): boolean => next !== null || until !== null;
const oneLine = (json: string): string => json.replaceAll('\n', ' ');

const encodings = {
  csv: {
    type: 'text/csv; charset=utf-8; header=present',
    // Without a byte order mark Excel takes the file for one of the old code page; CSV readers skip it.
    head: `\uFEFF${csvRecord(entryColumns)}`,
    entry: (entry) => csvRecord(JSON.parse(entry) as (string | null)[]),
    tail: (last) => {
      if (!isIncomplete(last)) return '';
      const note =
        last.next === null
          ? `incomplete: entries before ${last.searched_until ?? ''} cannot be searched`
          : `incomplete: older entries follow, export them with before=${last.next}`;
      return csvRecord(entryColumns.map((_, index) => (index === 0 ? note : '')));
    },
  },
  json: {
    type: 'application/json',
    head: '{"entries":[',
    entry: (entry, index) => `${index === 0 ? '' : ','}\n${oneLine(entry)}`,
    tail: ({ next, searched_until }) =>
      `\n],"next":${JSON.stringify(next)},"searched_until":${JSON.stringify(searched_until)}}\n`,
  },
  ndjson: {
    type: 'application/x-ndjson',
    head: '',
    entry: (entry) => `${oneLine(entry)}\n`,
    tail: (last) =>
      isIncomplete(last)
        ? `${JSON.stringify({ next: last.next, searched_until: last.searched_until })}\n`
        : '',
  },
} as const satisfies Record<string, Encoding>;

type ReadPage = (before: string | undefined, limit: number) => Promise<AuditPageJson>;

/** The file, a page at a time. The first text comes after the first page is read, so that a refusal is an answer. */
async function* exportTexts(
  { head, entry, tail }: Encoding,
  readPage: ReadPage,
  { before, limit }: { readonly before?: string | undefined; readonly limit: number },
): AsyncGenerator<string, undefined> {
  let page = await readPage(before, Math.min(limit, pageSize));
  let count = 0;
  yield head;
  for (;;) {
    yield page.entries.map(({ text }) => entry(text, count++)).join('');
    if (page.next === null || count >= limit) break;
    page = await readPage(page.next, Math.min(limit - count, pageSize));
  }
  yield tail(page);
}

/** Reads the next page when the client has taken the one before. `onFailure` ends the response. */
function streamOf(
  texts: AsyncGenerator<string, undefined>,
  head: string,
  onFailure: (error: Error) => void,
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  return new ReadableStream<Uint8Array>(
    {
      start: (controller) => controller.enqueue(encoder.encode(head)),
      pull: async (controller) => {
        try {
          const { value, done } = await texts.next();
          if (done === true) controller.close();
          else controller.enqueue(encoder.encode(value));
        } catch (error) {
          onFailure(toError(error));
        }
      },
      cancel: async () => void (await texts.return(undefined)),
    },
    { highWaterMark: 0 },
  );
}

/** The value of Content-Disposition, RFC 6266. */
function attachment(name: string): string {
  const ascii = name.replaceAll(/[^\w.-]/g, '_');
  return `attachment; filename="${ascii}"; filename*=UTF-8''${encodeURIComponent(name)}`;
}

/**
 * The history as a file. It has one slot of the user while it lasts, and no session of the database between two pages.
 * Another one waits for it: with both slots the user's pages would get nothing.
 */
export function addAuditExport(
  app: RestApp,
  { context, parameters, pageQuery, refusals, openChannels }: AuditRoutes,
): void {
  const { authorization, lifecycle, reads, requestSlots, signedIn } = context;
  const exportSlots = new RequestSlots(1);
  const formats = Object.keys(encodings) as (keyof typeof encodings)[];
  const query = pageQuery.extend({
    format: z.enum(formats, { error: `must be one of ${formats.join(', ')}` }),
    limit: schemas.pageLimit({ most: maxEntries, usual: maxEntries }),
  });
  app.openapi(
    createRoute({
      method: 'get',
      path: '/api/audit/export',
      operationId: 'exportAudit',
      summary: `The history as a file, newest first, at most ${maxEntries} entries. If the connection breaks, it is incomplete`,
      ...signedIn,
      parameters,
      request: { query },
      responses: {
        200: {
          description:
            'csv: the members of AuditEntry are the columns, in UTF-8 with a byte order mark; texts that begin with = + - @ or a tab have an apostrophe before them. json: an AuditPage. ndjson: an AuditEntry a line. If older entries follow, the last record has next.',
          content: {
            'text/csv': { schema: z.string() },
            'application/x-ndjson': { schema: z.string() },
            'application/json': { schema: schemas.auditPageSchema.omit({ index: true }) },
          },
        },
        ...refusals,
      },
    }),
    async (request) => {
      const { format, ...filter } = request.req.valid('query');
      const { outgoing } = request.env;
      const { user } = request.get('principal');
      const readPage: ReadPage = async (before, limit) => {
        // The user's rights may have changed since the page before.
        const channels = await openChannels(request);
        const form = format === 'csv' ? 'texts' : 'object';
        return await searchAudit(reads(request), channels, { ...filter, before, limit }, form);
      };
      const respond = async (): Promise<Response> => {
        const texts = exportTexts(encodings[format], readPage, filter);
        const { value: head = '' } = await texts.next();
        const [channel] = filter.projects === 'all' ? [] : await openChannels(request);
        const projects = channel === undefined ? [] : await authorization.visibleProjects(user.id);
        const project = projects.find(({ id }) => id === channel?.projectId);
        const environment = project?.environments.find(({ id }) => id === channel?.environmentId);
        const place = [project?.name, environment?.key].filter((name) => name !== undefined);
        const body = streamOf(texts, head, (error) => {
          if (outgoing.destroyed) return;
          lifecycle.emit('access:failed', { error, request: 'GET /api/audit/export' });
          // Without the end of the chunked transfer, the client knows that the file is incomplete.
          outgoing.destroy();
        });
        return request.body(body, 200, {
          'Content-Type': encodings[format].type,
          'Content-Disposition': attachment(auditFileName({ place, ...filter, format })),
        });
      };
      return await new Promise<Response>((resolve, reject) => {
        const work = async (): Promise<void> => {
          const ended = new Promise((end) => outgoing.once('close', end));
          resolve(await respond());
          await ended;
        };
        exportSlots
          .run(user.id, outgoing, async () => await requestSlots.run(user.id, outgoing, work))
          .catch(reject);
      });
    },
  );
}
