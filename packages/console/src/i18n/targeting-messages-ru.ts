import { createPlural } from './plural.js';
import type { enOperators, enTargeting } from './targeting-messages.js';

const plural = createPlural('ru');

/** The messages about rules, variants, schedules and tags in Russian. */
export const ruTargeting: typeof enTargeting = {
  title: 'Таргетинг',
  readOnly:
    'Редактируется там, где управляют флагами: та консоль проверяет всё вместе. Изменения появятся здесь сразу.',
  nothing: 'Нет правил, вариантов и расписаний: пока флаг включён, все получают значение по умолчанию.',
  gets: 'Получает',
  defaultValue: 'значение по умолчанию',
  if: 'если',
  for: 'для',
  segment: (name) => `в сегменте ${name}`,
  joins: { and: 'и', or: 'или', and_not: 'и не' },
  percentBy: (percent, attribute) => `${percent} % пользователей по ${attribute}`,
  priority: (priority) => `приоритет ${plural.number(priority)}`,
  showAll: (count) => `Показать все (${plural.number(count)})`,
  first: (shown, count) => `Первые ${plural.number(shown)} из ${plural.number(count)}`,
  variants: 'Варианты',
  share: (percent) => `${plural.number(percent)} % пользователей`,
  splitBy: (key) => `по ${key}`,
  everyoneElse: 'Остальные',
  always: 'всегда',
  from: (start) => `с ${start}`,
  until: (end) => `до ${end}`,
  daily: (time) => `каждый день в ${time}`,
  weekly: (days, time) => `${days} в ${time}`,
  monthly: (day, time) => `${day}-го числа каждого месяца в ${time}`,
  lasts: (duration) => `на ${duration}`,
  ended: 'завершено',
  invalid: 'Это расписание нельзя вычислить, поэтому оно не действует.',
  switchesOn: (when, time) => `Включится ${when} (${time})`,
  switchesOff: (when, time) => `Выключится ${when} (${time})`,
  onNow: 'Сейчас включён по расписанию',
  offNow: 'Сейчас выключен по расписанию',
  switchedOff: 'Флаг выключен, поэтому расписания не действуют.',
};

/** Operators of conditions. */
export const ruOperators: typeof enOperators = {
  eq: 'равно',
  neq: 'не равно',
  in: 'одно из',
  not_in: 'ни одно из',
  contains: 'содержит',
  not_contains: 'не содержит',
  starts_with: 'начинается с',
  ends_with: 'заканчивается на',
  gt: '>',
  gte: '≥',
  lt: '<',
  lte: '≤',
  regex: 'соответствует',
};
