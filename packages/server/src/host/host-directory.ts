import type { Queries } from '../postgres/session-pool.js';
import { QueryBatcher } from '../postgres/query-batcher.js';

interface FoundUser {
  readonly id: string;
  readonly username: string;
  readonly active: boolean;
  readonly superuser: boolean;
}

/** A project and the environment that was asked for; null where the project has no such environment. */
interface FoundChannel {
  readonly projectId: string;
  readonly environmentId: string | null;
  readonly environmentKey: string | null;
}

/**
 * What can be looked up, as texts that PostgreSQL's types take. `first` is for `user_by_…` the value of that
 * column of users, for `view` users.id with the project as `second`; for `channel_by_key` and
 * `channel_by_id` the project, with the environment as `second`, null for none that there could be.
 */
export interface Question {
  readonly about: Row['about'];
  readonly first: string;
  readonly second: string | null;
}

type AboutUser = 'user_by_id' | 'user_by_name' | 'user_by_email';

type Row = { readonly position: number } & (
  | { readonly about: AboutUser; readonly found: FoundUser }
  | { readonly about: 'view'; readonly found: null }
  | { readonly about: 'channel_by_key' | 'channel_by_id'; readonly found: FoundChannel }
);

/** What was found, by question; what is missing was not. */
interface Answers {
  readonly users: ReadonlyMap<string, FoundUser>;
  readonly channels: ReadonlyMap<string, FoundChannel>;
  /** The `view`s that are allowed. */
  readonly allowed: ReadonlySet<string>;
}

/** The one rule of who may see what, over a row `viewer` of users and a row `project` of projects. */
export const MAY_VIEW = `viewer.is_active AND (
  viewer.is_superuser OR EXISTS (
    SELECT FROM public.memberships membership
    JOIN public.role_permissions granted ON granted.role_id = membership.role_id
    JOIN public.permissions permission ON permission.id = granted.permission_id
    WHERE membership.user_id = viewer.id
      AND membership.project_id = project.id
      AND permission.key = 'project.view'
  )
)`;

const USER = `json_build_object(
  'id', u.id::text, 'username', u.username::text, 'active', u.is_active, 'superuser', u.is_superuser
)`;
const CHANNEL = `json_build_object(
  'projectId', project.id::text, 'environmentId', e.id::text, 'environmentKey', e.key::text
)`;

/**
 * The first condition uses the index of the host. The second one compares every character, also where the column is
 * citext or has a collation that takes other letters for the same: an issuer may know both as different users.
 */
function userBy(column: 'username' | 'email'): string {
  return `JOIN public.users u ON u.${column} = asked.first AND u.${column}::text COLLATE "C" = asked.first`;
}

/** How each is asked, of rows `asked` (first, second, position), whose values are of these types. */
const parts: Readonly<Record<Question['about'], { types: [string, string]; found: string; from: string }>> = {
  user_by_id: { types: ['bigint', 'text'], found: USER, from: 'JOIN public.users u ON u.id = asked.first' },
  user_by_name: { types: ['text', 'text'], found: USER, from: userBy('username') },
  user_by_email: { types: ['text', 'text'], found: USER, from: userBy('email') },
  view: {
    types: ['bigint', 'uuid'],
    found: 'NULL::json',
    from: `JOIN public.users viewer ON viewer.id = asked.first
JOIN public.projects project ON project.id = asked.second AND project.archived_at IS NULL
WHERE ${MAY_VIEW}`,
  },
  channel_by_key: {
    types: ['uuid', 'text'],
    found: CHANNEL,
    from: `JOIN public.projects project ON project.id = asked.first AND project.archived_at IS NULL
LEFT JOIN public.environments e ON e.project_id = project.id AND e.key = asked.second`,
  },
  channel_by_id: {
    types: ['uuid', 'bigint'],
    found: CHANNEL,
    from: `JOIN public.projects project ON project.id = asked.first AND project.archived_at IS NULL
LEFT JOIN public.environments e ON e.project_id = project.id AND e.id = asked.second`,
  },
};

/**
 * Asks PostgreSQL who somebody is, which channel is meant and who may see it: whatever is asked at the
 * same time by one query, however many ask. Nothing is kept. Methods reject with the pool's errors.
 */
export class HostDirectory {
  readonly #pool: Queries;
  readonly #gathered: QueryBatcher<Question, Answers>;

  constructor(pool: Queries) {
    this.#pool = pool;
    this.#gathered = new QueryBatcher(async (questions) => await this.#askAll(questions));
  }

  /** Null if there is none, or more than one. */
  async user(about: AboutUser, value: string): Promise<FoundUser | null> {
    const question = { about, first: value, second: null };
    const { users } = await this.#gathered.ask(question);
    return users.get(keyOf(question)) ?? null;
  }

  /** Null if there is no such project. */
  async channel(
    about: 'channel_by_key' | 'channel_by_id',
    projectId: string,
    environment: string | null,
  ): Promise<FoundChannel | null> {
    const question = { about, first: projectId, second: environment };
    const { channels } = await this.#gathered.ask(question);
    return channels.get(keyOf(question)) ?? null;
  }

  /** Whether the project exists and the user is active and a superuser or a member with `project.view`. */
  async mayView(userId: string, projectId: string): Promise<boolean> {
    const question: Question = { about: 'view', first: userId, second: projectId };
    const { allowed } = await this.#gathered.ask(question);
    return allowed.has(keyOf(question));
  }

  /** For each pair whether it may view now, by one query for these alone. */
  async mayViewEach(
    pairs: readonly { readonly userId: string; readonly projectId: string }[],
  ): Promise<boolean[]> {
    const questions = pairs.map(({ userId, projectId }): Question => ({
      about: 'view',
      first: userId,
      second: projectId,
    }));
    const { allowed } = await this.#askAll(questions);
    return questions.map((question) => allowed.has(keyOf(question)));
  }

  async #askAll(questions: readonly Question[]): Promise<Answers> {
    const byAbout = new Map<Question['about'], Map<string, Question>>();
    for (const question of questions) {
      const equal = byAbout.get(question.about) ?? new Map<string, Question>();
      byAbout.set(question.about, equal.set(keyOf(question), question));
    }
    const selects: string[] = [];
    const values: (string | null)[][] = [];
    for (const [about, asked] of byAbout) {
      const { types, found, from } = parts[about];
      values.push(
        [...asked.values()].map(({ first }) => first),
        [...asked.values()].map(({ second }) => second),
      );
      selects.push(`SELECT '${about}' AS about, asked.position::integer AS position, ${found} AS found
FROM unnest($${values.length - 1}::${types[0]}[], $${values.length}::${types[1]}[])
  WITH ORDINALITY AS asked (first, second, position)
${from}`);
    }
    const keys = new Map([...byAbout].map(([about, asked]) => [about, [...asked.keys()]]));
    const users = new Map<string, FoundUser>();
    /** Users of whom there are several: a host's column may have no unique index. */
    const ambiguous = new Set<string>();
    const channels = new Map<string, FoundChannel>();
    const allowed = new Set<string>();
    if (selects.length > 0) {
      const { rows } = await this.#pool.query<Row>(selects.join('\nUNION ALL\n'), values);
      for (const row of rows) {
        const key = keys.get(row.about)?.[row.position - 1];
        if (key === undefined) continue;
        switch (row.about) {
          case 'user_by_id':
          case 'user_by_name':
          case 'user_by_email':
            if (users.has(key)) ambiguous.add(key);
            users.set(key, row.found);
            break;
          case 'view':
            allowed.add(key);
            break;
          case 'channel_by_key':
          case 'channel_by_id':
            channels.set(key, row.found);
            break;
        }
      }
    }
    for (const key of ambiguous) users.delete(key);
    return { users, channels, allowed };
  }
}

function keyOf({ about, first, second }: Question): string {
  return JSON.stringify([about, first, second]);
}
