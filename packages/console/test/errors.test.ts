import { createBody, updateBody } from '../server/schemas.js';
import { requestErrors } from '@flagcast/protocol';
import { expect, it } from 'vitest';
import { ApiError } from '../src/api/api.js';
import { describeError, describeFields } from '../src/shell/notifications.js';
import { en } from '../src/i18n/en.js';
import { ru } from '../src/i18n/ru.js';

/** As the server words it when it creates a feature. */
const keyTaken = 'is taken by another feature of this project';

it.each(Object.keys(requestErrors))('the refusal %s is described in the language of the page', (code) => {
  const error = new ApiError(503, { code, message: 'the text of the server' });
  expect(describeError(error, en)).toMatch(/^[A-Z]/);
  expect(describeError(error, ru)).toMatch(/^[А-Я]/);
});

it('every problem that the server reports for an input is described in the language of the page', () => {
  const values = [undefined, 7, '', ' ', '\0', '-', 'x'.repeat(2_000)];
  const inputs = new Set<PropertyKey>(['name', 'key', 'description', 'rollout_key', 'default_value']);
  const issues = values.flatMap((value) => {
    const fields = Object.fromEntries([...inputs].map((input) => [input, value]));
    return [createBody, updateBody].flatMap((body) => body.safeParse(fields).error?.issues ?? []);
  });
  const found = issues.filter(({ path: [field] }) => field !== undefined && inputs.has(field));
  const problems = new Set(found.map(({ message }) => message).concat(keyTaken));
  const keys = [...problems].map((problem) => problem.replace(/\d+/, '#'));
  expect([...new Set(keys)].toSorted()).toEqual(Object.keys(en.fieldProblems).toSorted());
  const describe = (problem: string, messages: typeof en): string | undefined =>
    describeFields(new ApiError(400, { code: 'invalid', fields: { name: problem } }), messages)['name'];
  for (const problem of problems) {
    expect(describe(problem, en)).toMatch(/^[A-Z].*\.$/);
    expect(describe(problem, ru)).toMatch(/^[А-Я].*\.$/);
  }
  expect(describe('may have at most 50 characters', en)).toBe('Use at most 50 characters.');
});
