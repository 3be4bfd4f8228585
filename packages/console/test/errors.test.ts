import { requestErrors } from '@flagcast/protocol';
import { expect, it } from 'vitest';
import { ApiError, describeError } from '../src/api/api.js';
import { en } from '../src/i18n/en.js';
import { ru } from '../src/i18n/ru.js';

it.each(Object.keys(requestErrors))('the refusal %s is described in the language of the page', (code) => {
  const error = new ApiError(503, { code, message: 'the text of the server' });
  expect(describeError(error, en)).toMatch(/^[A-Z]/);
  expect(describeError(error, ru)).toMatch(/^[А-Я]/);
});
