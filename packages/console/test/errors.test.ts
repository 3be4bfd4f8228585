import { expect, it } from 'vitest';
import { ApiError } from '../src/api/api.js';
import { describeError } from '../src/shell/notifications.js';
import { en } from '../src/i18n/en.js';
import { ru } from '../src/i18n/ru.js';

it.each([
  'outcome_unknown',
  'busy',
  'too_many_requests',
  'too_many_attempts',
  'guard_unreadable',
  'unsupported_change',
  'decide_elsewhere',
  'change_pending',
])('the refusal %s is described in the language of the page', (code) => {
  const error = new ApiError(503, { code, message: 'the text of the server' });
  expect(describeError(error, en)).toMatch(/^[A-Z]/);
  expect(describeError(error, ru)).toMatch(/^[А-Я]/);
});
