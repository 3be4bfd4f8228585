import { HttpProblem, scrub } from 'flagcast/support';

/** The database has no tables of Togglr's form, or does not let the server read them. */
export function missingTables({ message }: Error): HttpProblem {
  return new HttpProblem(
    'not_available',
    `This needs Togglr's tables, which the database does not have or the server may not read (${scrub(message)}): use the application that manages the flags, or grant SELECT`,
  );
}

export function unknownFeature(): HttpProblem {
  return new HttpProblem('unknown_feature', 'There is no such feature, or it has been deleted');
}

export function unknownEnvironment(): HttpProblem {
  return new HttpProblem('unknown_environment', 'There is no such environment in this project');
}
