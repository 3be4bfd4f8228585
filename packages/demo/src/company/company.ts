/** A project of the demo's company. */
export interface DemoProject {
  readonly id: string;
  readonly name: string;
  readonly description: string;
}

/** A user of the company. */
export interface DemoUser {
  readonly username: string;
  readonly email: string;
  /** Well-known: use it only in a database of the demo. */
  readonly password: string;
  readonly superuser: boolean;
  /** What the user may do, in one line for the sign-in page. */
  readonly about: string;
  /** The key of the role in each project, by the project's name. */
  readonly roles: Readonly<Record<string, 'project_owner' | 'project_member' | 'project_viewer'>>;
}

/** A flag of the company, before the demo gives it a history. */
export interface FlagTemplate {
  readonly key: string;
  readonly name: string;
  readonly description: string;
  /** The environments in which the flag is on: none, dev only, dev and stage, or all. */
  readonly rollout: 'off' | 'dev' | 'stage' | 'prod';
  /** The possible values, the default first; empty for a flag that is only on or off. */
  readonly values: readonly string[];
}

/** The projects; each has the environments prod, stage and dev. */
export const demoProjects: readonly DemoProject[] = [
  {
    id: 'f1a9c457-0001-4000-8000-000000000001',
    name: 'Web shop',
    description: 'The shop in the browser: catalogue, basket, checkout',
  },
  {
    id: 'f1a9c457-0001-4000-8000-000000000002',
    name: 'Mobile app',
    description: 'The app for iOS and Android',
  },
  {
    id: 'f1a9c457-0001-4000-8000-000000000003',
    name: 'Billing',
    description: 'Invoices, payments, dunning',
  },
];

/** The users; the password of each is the username followed by `-demo`. */
export const demoUsers: readonly DemoUser[] = [
  person('alice', 'owns all three projects, approves changes', {
    'Web shop': 'project_owner',
    'Mobile app': 'project_owner',
    Billing: 'project_owner',
  }),
  person('bob', 'switches flags in Web shop and Mobile app', {
    'Web shop': 'project_member',
    'Mobile app': 'project_member',
  }),
  person('carol', 'looks at Web shop', { 'Web shop': 'project_viewer' }),
  person('dave', 'switches flags in Billing', { Billing: 'project_member' }),
  { ...person('root', 'may do everything everywhere', {}), superuser: true },
];

function person(username: string, about: string, roles: DemoUser['roles']): DemoUser {
  return {
    username,
    email: `${username}@example.com`,
    password: `${username}-demo`,
    superuser: false,
    about,
    roles,
  };
}
