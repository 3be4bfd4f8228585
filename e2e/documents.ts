import { readFile } from 'node:fs/promises';
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';

export const root = new URL('../', import.meta.url);

/** A fenced block of a document. */
export interface Block {
  readonly file: string;
  /** Line number of its opening fence, from 1. */
  readonly line: number;
  /** The info string of the fence, or empty. */
  readonly language: string;
  readonly text: string;
}

/** Returns the paths of all documents in the repository. */
export function listDocuments(): string[] {
  const tracked = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard', '*.md'], {
    cwd: root,
    encoding: 'utf8',
  });
  return tracked
    .trim()
    .split('\n')
    .filter((file) => existsSync(new URL(file, root)));
}

export async function readDocument(file: string): Promise<string> {
  return await readFile(new URL(file, root), 'utf8');
}

/** Returns the fenced blocks of a document. */
export async function blocksOf(file: string): Promise<Block[]> {
  const document = await readDocument(file);
  return [...document.matchAll(/^```(\w*)\n([^]*?)^```$/gm)].map(
    ({ index, 1: language = '', 2: text = '' }) => ({
      file,
      line: document.slice(0, index).split('\n').length,
      language,
      text,
    }),
  );
}

/** Returns a document without its fenced blocks and inline code. */
export function proseOf(document: string): string {
  return document.replace(/^```[^]*?^```$/gm, '').replace(/`[^`\n]*`/g, '');
}

/** Returns the anchors of a document's headings, as GitHub generates them. */
export function anchorsOf(document: string): Set<string> {
  const anchors = new Set<string>();
  const withoutBlocks = document.replace(/^```[^]*?^```$/gm, '');
  for (const [, heading = ''] of withoutBlocks.matchAll(/^#{1,6} (.*)$/gm)) {
    const text = heading.replace(/\[([^\]]*)\]\([^)]*\)/g, '$1');
    const slug = text
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\p{M}_ -]/gu, '')
      .replaceAll(' ', '-');
    let anchor = slug;
    for (let repeat = 1; anchors.has(anchor); repeat += 1) anchor = `${slug}-${repeat}`;
    anchors.add(anchor);
  }
  return anchors;
}
